. /srv/cg/disc2/env.sh
C="$PY /srv/cg/disc2/cli.py benchmark discovery --folder /srv/cg/disc2/final"
W=perov5-water-splitting; P=perov5-photocorrosion-shield
$C --rewards $W --methods bootstrapped-dqn-common bootstrapped-dqn-labels-common label-ensemble-common bootstrapped-dqn bootstrapped-dqn-labels label-ensemble --seeds 0 1 2 3 4 5 6 7
$C --rewards $P --methods random random-common genetic genetic-common bootstrapped-dqn-common bootstrapped-dqn-labels-common label-ensemble-common extra-trees-common 
$C --rewards $W --methods bootstrapped-dqn-common bootstrapped-dqn-labels-common label-ensemble-common bootstrapped-dqn bootstrapped-dqn-labels label-ensemble
